"""The command line. Thin: each command reads its arguments, calls the library, and shows the result.

    app.py            the application and what its overview says
    terminal.py       where commands print, and how errors are told
    runs.py           demo, run, validate, schema
    cluster.py        compile, submit, retune
    prompts.py        ask, inspect, compare
    formats.py        export, import
    review.py         review list, show, approve, reject, record, log
    release.py        release propose, plan, apply, status
    release_care.py   release init, history, trace, revoke, restore, verify, gc
    release_keys.py   release keygen, root
    serving.py        status, serve, ui

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from softprompt.cli import cluster, formats, prompts, release, release_care, release_keys, review, runs, serving
from softprompt.cli.app import app, main

__all__ = ["app", "cluster", "formats", "main", "prompts", "release", "release_care", "release_keys", "review", "runs", "serving"]
