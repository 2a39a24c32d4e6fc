"""An OpenAI-compatible server over text engines.

app.py           the FastAPI application: routes, errors, who may call
registry.py      models and adapters by the names that requests use
requests.py      what clients send, checked          responses.py   what they get
chat.py          /v1/chat/completions                completions.py /v1/completions
respond.py       /v1/responses                       response_api.py its bodies
tools.py         tools: told, called, read           shelf.py       which adapters are in memory
meter.py         counts, request ids, a log
answering.py     from a request to a place in the queue, and what answers say of themselves
gate.py          the queue: who is next, how long it will take, who is told to come again
running.py       answers of a request under way, and what happens when a client goes away
streams.py       answers as events
faults.py        errors in OpenAI's shape
encodable.py     strings that are no text are refused before anything reads them
lookups.py       adapters that a request names and nobody added, looked for beside what is served
files.py         files of clients                    uploads.py      large ones, in parts
file_search.py   passages put before a question      citations.py    where an answer says that it is from
edges.py         slashes, HEAD, and which web pages may call
access.py        the key, and which hosts a browser may reach us by
server.py        the application on a port, in a thread
"""
