"""softprompt: many tiny tuned prompts for one frozen language model.

Importing the package loads nothing heavy; every module says in its first lines why it exists.
"""

__version__ = "0.1.0"
