"""A text engine in a process of its own: what kills it fails only what was in flight, and it starts again.

    engine.py    the engine as others see it, in the server's process
    flights.py   requests that have not ended; `suspects.py` of them, those that were in flight when a process ended
    standing.py  adapters, which every new process is given again
    restarts.py  when a process that ended is started again
    process.py   the process, started, watched and ended by its server
    pulse.py     whether it gets on: told by the process, judged by its server
    worker.py    what runs in the process: builds the real engine and passes requests and pieces on
    line.py      what is said to the process, by a thread of its own
    wire.py      the messages between the two

The messages are Python's own (pickle): both ends are one program on one machine, on a socket that nobody else has.
"""
