"""Talking to MLflow: a client with sensible limits, failures explained, and the sink that training reports to."""

import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from softprompt.errors import TrackingUnavailable
from softprompt.progress import tell

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROBE_SECONDS = 5
MOST_METRICS_A_CALL = 1000
"""MLflow's own limit."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default of 7 is minutes of silence
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",  # else files come from S3 itself, which a client may not reach
}


class MlflowSink:
    """Training metrics to a run while it trains. Travels to a Ray worker by pickle, so it holds plain strings only."""

    def __init__(self, tracking_uri: str, run_id: str) -> None:
        self._tracking_uri, self._run_id = tracking_uri, run_id

    def log(self, points: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Record metrics; a server that is briefly away loses a part of the curve, not the training."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(f"tune_prompt/{name}", value, now, step) for step, metrics in points for name, value in metrics.items()]
        try:
            for start in range(0, len(entries), MOST_METRICS_A_CALL):
                client = mlflow_client(self._tracking_uri)
                client.log_batch(self._run_id, metrics=entries[start : start + MOST_METRICS_A_CALL])
        except Exception as error:  # noqa: BLE001  # whatever the server says, training goes on
            tell("tune_prompt", f"MLflow did not take the metrics of step {points[-1][0]}: {error}")


def mlflow_client(tracking_uri: str) -> "MlflowClient":
    """An MLflow client that sends no usage statistics, fails in seconds rather than minutes, and refuses pickles."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    return mlflow.MlflowClient(tracking_uri)


def check_tracking(tracking_uri: str) -> None:
    """Find out before the work whether the tracking server answers.

    Raises:
        TrackingUnavailable: It does not.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return
    try:
        # Only http and https get here, so no file is opened.
        urllib.request.urlopen(f"{tracking_uri.rstrip('/')}/health", timeout=PROBE_SECONDS).close()  # noqa: S310
    except (urllib.error.URLError, OSError) as error:
        raise _away(tracking_uri, error) from None


@contextmanager
def talking_to(tracking_uri: str) -> Iterator["MlflowClient"]:
    """A client whose failures to connect are explained.

    Raises:
        TrackingUnavailable: The server does not answer, or refused.
    """
    check_tracking(tracking_uri)
    from mlflow.exceptions import MlflowException

    try:
        yield mlflow_client(tracking_uri)
    except MlflowException as error:
        raise TrackingUnavailable(
            "The MLflow tracking server refused.", where=tracking_uri, actual=str(error).strip().splitlines()[0]
        ) from error
    except OSError as error:
        raise _away(tracking_uri, error) from None


def _away(tracking_uri: str, error: Exception) -> TrackingUnavailable:
    return TrackingUnavailable(
        "The MLflow tracking server does not answer.",
        where=tracking_uri,
        actual=str(getattr(error, "reason", error)),
        hint="Check MLFLOW_TRACKING_URI; unset it to use the laptop's own database.",
    )
