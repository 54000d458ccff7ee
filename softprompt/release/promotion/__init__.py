"""Promotion by pull request: what a Git checkout wants of a channel, brought there, proposed, watched."""
