"""Review decisions: signed, numbered records in the store, each naming the one before it."""
