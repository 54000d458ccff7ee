"""The care of a channel: its beginning, keys and roots, history, verification, copies, and what is taken away."""
