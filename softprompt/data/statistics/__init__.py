"""What the rows of a dataset say as a whole: a classical baseline, wrong labels, triggers, drift, power, balance.

Plain sequences of texts and labels in, plain results with a sentence out; `softprompt.data` decides what to refuse.
scikit-learn and cleanlab are imported where they are used, so that importing this package costs nothing.
"""
