"""Reading datasets: many formats in, one stream of records out, each with its file and line; nothing is held."""
