"""Datasets: read strictly, refuse what would ruin a prompt, divide, and write an immutable artifact.

rows.py      a row and where it came from
read.py      JSONL and CSV files -> rows and findings
split.py     training, validation, test by a hash of content
checks.py    what is wrong with the rows
dataset.py   the artifact: Parquet a part, a manifest with a digest over content
validate.py  the step `validate_dataset`
report.py    one page that says why a dataset was refused and which rows to mend
"""
