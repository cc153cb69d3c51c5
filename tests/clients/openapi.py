"""Runs schemathesis against the description that a server publishes: no 5xx, no answer outside its schema.

    openapi.py URL [EXAMPLES [SECONDS]]

EXAMPLES is the number of requests made up for each path (20), SECONDS how long it may take in all (45).
"""

import os
import subprocess
import sys

url = sys.argv[1]
examples = sys.argv[2] if len(sys.argv) > 2 else "20"
seconds = sys.argv[3] if len(sys.argv) > 3 else "45"

command = [
    os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", url + "/api/openapi.json", "--url", url,
    # Ending the server is no part of the test.
    "--exclude-tag", "admin",
    "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
                "negative_data_rejection,unsupported_method",
    "--phases", "examples,coverage,fuzzing",
    "--max-examples", examples, "--max-time", seconds, "--generation-deterministic", "--continue-on-failure", "--no-color",
    # A text that is no TraceQL is valid for the schema, and refused all the same.
    "--warnings", "off",
]
sys.exit(subprocess.run(command).returncode)
