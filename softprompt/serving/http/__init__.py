"""The HTTP interface: OpenAI's completions and chat completions, label ranking, probes, metrics, a page.

models.py       what requests and replies look like
openapi.py      their description
errors.py       what goes wrong, in OpenAI's form
guard.py        around every request: body size, request id, log line, trace
asking.py       a request's caller, prompt, tokens and places
completions.py  chat.py  classify.py  catalogue.py  probes.py  page.py
streaming.py    server-sent events
app.py          put together
"""
