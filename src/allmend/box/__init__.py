"""Running a notebook held to its permissions, with a record of what it did.

probe       what this machine can enforce, tried for real
levels      the level chosen from that, with reasons; fails closed
view        what is visible inside, and with which rights
bubblewrap  level A's outer wall
inside/     the launcher (Landlock, seccomp, privileges) and the stand-ins, which run next to hostile code
control     the supervisor's side of the launcher's socket
egress/     the only way out: proxy, transparent ports, DNS
notices     programs and connections, seen through seccomp notifications
cgroups     memory, processes and CPU where control groups can be had
settings    what a box is made from
box         one box from start to end
processes   what runs in it, seen from outside: started, alive, ended
connections every way into and out of it
reports     what the interpreter inside says it tried
execute     cells through the kernel's sockets; its messages are hostile input
record      events by cell
job         one notebook to run, and who hears how it goes
run         it, from its first cell to its receipt
taking_out  what it leaves, copied out by its permissions
receipt     the record as a noun, and its difference from the plan
"""
