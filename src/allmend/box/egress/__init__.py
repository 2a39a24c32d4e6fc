"""The only way out of the box: names that were granted, at public addresses, with every byte counted.

policy       which name and port is granted, and by whom
addresses    which addresses may be dialled at all
client_hello the server name a TLS client asks for
dns          the box's own name server
http         strict reading of HTTP requests
gate         one connection from the box, from its first byte to its last
servers      the listening sockets that live inside the box
"""
