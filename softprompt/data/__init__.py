"""Datasets: read strictly, refuse what would ruin a prompt, divide, and write an immutable artifact.

rows.py        a row and where it came from; a finding
reading/       files of any format -> records
contract.py    records -> rows, as the recipe's dataset specification promises
ingest.py      files -> a table of rows, in this process
ray_engine.py  the same over Ray Data's workers
table.py       rows on disk, mapped
measure.py     numbers of each row
near.py        texts that are almost the same
split.py       training, validation, test by a hash of content
text/          what one text gives away: odd characters, personal data, attempts to instruct the model
statistics/    what all rows say together: baseline, wrong labels, poison, drift
examined.py    rows, numbers and parts together; how checks say what they found
checks/        what is wrong with the rows
dataset.py     the artifact: Parquet a part, a manifest with a digest over content
validate.py    the step `validate_dataset`
mend.py        the same dataset without the rows that cannot stay; row_files.py writes it
report.py      one page that says why a dataset was refused and which rows to mend
terminal.py    the same in a terminal
tokens.py      training rows as token ids in memory-mapped files
"""
