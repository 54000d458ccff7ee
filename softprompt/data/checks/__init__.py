"""What is wrong with a dataset: each check looks at all rows that are still in and yields what it found.

texts.py      odd characters, wrong encodings, personal data, attempts to instruct the model
repeats.py    duplicates, contradictions, near duplicates, leaks between parts
labels.py     the label set: names, counts, balance
lengths.py    what does not fit into the base model's context
learned.py    what simple models and statistics of all rows say: wrong labels, poison, languages, drift, too few rows
"""
