"""What a prompt learned, said in terms that a person knows: real tokens, and the attention that real rows pay.

spaces.py       where a prompt's vectors and real tokens can be compared
nearest.py      the vocabulary's tokens nearest to each vector
norms.py        lengths of the vectors beside those of real tokens
projection.py   vectors among real tokens, in two dimensions
attention.py    the share of attention that rows pay to the prompt
vocabulary.py   the three comparisons in one reading of the vocabulary
inspection.py   all of it as one document
report.py       the document as a page
terminal.py     the document in a terminal
"""
