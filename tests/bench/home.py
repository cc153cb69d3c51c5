"""Where the benchmarks keep what they make, and the Python packages they need."""
import os, pathlib, subprocess, sys, tempfile

PACKAGES = ["duckdb==2.0.0", "pyarrow==26.0.1", "adbc-driver-flightsql==1.13.0", "adbc-driver-manager==1.13.0"]


def scratch():
    """The folder for data, copies and the packages: $TRACEHOUSE_BENCH, or one below the system's temporary folder."""
    folder = pathlib.Path(os.environ.get("TRACEHOUSE_BENCH") or pathlib.Path(tempfile.gettempdir()) / "tracehouse-bench")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def need_packages():
    """Runs this program again in an environment of its own if a package is missing; installs what it needs once."""
    try:
        import adbc_driver_flightsql, duckdb, pyarrow  # noqa: F401
        return
    except ImportError:
        pass
    env = scratch() / "venv"
    python = env / "bin" / "python"
    if os.environ.get("TRACEHOUSE_BENCH_VENV") == str(env):
        raise SystemExit(f"the packages in {env} do not work: remove it and try again")
    if not (env / "ready").exists():
        print(f"installing {', '.join(PACKAGES)} into {env}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", env], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        (env / "ready").touch()
    os.environ["TRACEHOUSE_BENCH_VENV"] = str(env)
    os.execv(python, [str(python), *sys.argv])
