"""A text engine in a process of its own: what kills it fails only what was in flight, and it starts again.

    engine.py    the engine as others see it, in the server's process
    worker.py    the process: builds the real engine and passes requests and pieces on
    line.py      what is said to the process, by a thread of its own
    wire.py      the messages between the two

The messages are Python's own (pickle): both ends are one program on one machine, on a socket that nobody else has.
"""
