"""Settings: a laptop needs none, and what is set is taken."""

from pathlib import Path

from softprompt.settings import Settings


def test_a_laptop_needs_no_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({})
    assert settings.home == tmp_path / ".softprompt"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/.softprompt/mlflow.db"
    assert settings.uses_embedded_store
    assert settings.run_artifacts == tmp_path / ".softprompt" / "mlartifacts"


def test_what_is_set_is_taken():
    settings = Settings.from_environment(
        {
            "SOFTPROMPT_HOME": "/h",
            "SOFTPROMPT_STORE": "s3://b/p",
            "SOFTPROMPT_POLICIES": "/p",
            "SOFTPROMPT_TRUST_ROOT": "/t",
            "SOFTPROMPT_KEYS": "/k",
            "SOFTPROMPT_CHECKPOINTS": "s3://c",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        }
    )
    assert (settings.store, settings.uses_embedded_store) == ("s3://b/p", False)
    assert (settings.policies, settings.trust_root) == (Path("/p"), Path("/t"))
    assert settings.signing_key("staging") == Path("/k/publish-staging.pem")
    assert settings.run_artifacts is None
    assert settings.checkpoints == "s3://c"
