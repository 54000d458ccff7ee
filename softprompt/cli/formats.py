"""`softprompt export` and `softprompt import`: prompt files to other formats and back."""
