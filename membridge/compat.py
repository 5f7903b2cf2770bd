"""push_project, pull_project and doctor_project of the Python product: the answer of this machine's agent, with the
times around it. MEMBRIDGE_AGENT_URL and MEMBRIDGE_AGENT_KEY say where and with which key.
"""

import json
import os
import time
import urllib.error
import urllib.request

# An agent ends a job after 120 seconds.
_PATIENCE = 150


def _ask(action, project):
    url = os.environ.get("MEMBRIDGE_AGENT_URL", "http://127.0.0.1:8001").rstrip("/")
    request = urllib.request.Request(
        f"{url}/{action}",
        data=json.dumps({"project": project}).encode(),
        headers={"Content-Type": "application/json", "X-MEMBRIDGE-AGENT": os.environ.get("MEMBRIDGE_AGENT_KEY", "")},
        method="POST",
    )
    started_at = time.time()
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        answer = {"ok": False, "action": action, "project": project, "detail": f"{error.code} {error.read().decode(errors='replace')}"}
    except (OSError, ValueError) as error:
        answer = {"ok": False, "action": action, "project": project, "detail": str(error)}
    return {**answer, "started_at": started_at, "finished_at": time.time()}


def push_project(project):
    """Sends what this machine recorded."""
    return _ask("push", project)


def pull_project(project):
    """Brings in what other machines recorded."""
    return _ask("pull", project)


def doctor_project(project):
    """Asks how this machine is."""
    return _ask("doctor", project)
