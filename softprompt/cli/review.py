"""`softprompt review`: look at versions in the registry and decide about them, from a terminal."""
