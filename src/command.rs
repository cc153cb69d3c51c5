//! Runs a command of the command line.

use std::io::{IsTerminal, Write};

use indicatif::ProgressDrawTarget;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Command, ConfigArgs, LoadArgs, ServeArgs},
    config, demo,
    error::{Error, Result},
    load, query, serve,
};

/// Exit code after a second signal.
const IMPATIENT: i32 = 130;

/// Runs a command to its end.
pub fn run(command: Command) -> Result<()> {
    if let Command::Config(args) = &command {
        return print_config(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(args).await,
            Command::Sql(args) => quiet(query::run_sql(&args)).await,
            Command::Traceql(args) => quiet(query::run_traceql(&args)).await,
            Command::Load(args) => send_load(args).await,
            Command::Demo(args) => {
                log(&args.log_level)?;
                demo::run(args, on_signal()?).await
            }
            Command::Config(_) => Ok(()),
        }
    });
    // A thread that waits for stdin or a disk does not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

async fn serve(args: ServeArgs) -> Result<()> {
    let config = config::from_process(args.config.as_deref(), args.overrides())?;
    log(&config.server.log_level)?;
    serve::run(config, on_signal()?).await
}

/// Commands that answer a question log only what went wrong.
async fn quiet(question: impl Future<Output = Result<()>>) -> Result<()> {
    log("warn")?;
    question.await
}

async fn send_load(args: LoadArgs) -> Result<()> {
    log("warn")?;
    let options = args.options();
    let bar = load::progress(&options);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let seed = options.seed;
    let report = load::run(options, on_signal()?, bar).await?;
    println!("{}\nseed: {seed}", report.summary());
    match report.all_taken() {
        true => Ok(()),
        false => Err(Error::failed(format!("{} spans were not taken", report.rejected + report.failed))),
    }
}

fn print_config(args: &ConfigArgs) -> Result<()> {
    let text = match args.markdown {
        true => config::markdown(),
        false => config::yaml(&config::from_process(args.config.as_deref(), Vec::new())?),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Logs to stderr, for people.
fn log(level: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level)
        .map_err(|e| Error::usage(format!("--log-level {level:?}: {e}: give error, warn, info, debug or trace")))?;
    let color = std::io::stderr().is_terminal();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).try_init();
    Ok(())
}

/// Cancelled by SIGTERM or SIGINT; the second one ends the process at once.
fn on_signal() -> Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if cancel.is_cancelled() {
                std::process::exit(IMPATIENT);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
