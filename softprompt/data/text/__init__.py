"""What is in one text that does not belong in a dataset: pure functions, called for every row of millions.

flags.py                one bit mask a text, behind cheap prefilters; a sentence piece about each bit
characters.py           controls, invisible characters, private use; texts that show nothing
mojibake.py             text decoded with the wrong encoding
scripts.py              the writing system; look-alike letters of another one inside a word
languages.py            the language, where the text is long enough to tell
instructions.py         attempts to instruct the model
instruction_phrases.py  ... the phrases, in seven languages
personal_data.py        all personal data of a text, and masking it
matches.py              where a piece of personal data stands
e_mails.py, phones.py, cards.py, ibans.py, national_ids.py, ip_addresses.py   one kind each
"""
