"""Starts runs as no client does by itself."""

import json
import sys
import urllib.request


def start(base, job, **headers):
    """Triggers a job; answers the work request and the answer's headers."""
    request = urllib.request.Request(f"{base}/v1/jobs/{job}/trigger", method="POST")
    request.add_header("X-API-Key", sys.argv[2])
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202, answer.status
        return json.load(answer), answer.headers
