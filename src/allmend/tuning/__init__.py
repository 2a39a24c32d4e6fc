"""Tuning: from token rows to a LoRA.

packs       rows into batches, batches into packs of at most so many tokens
loss        cross-entropy at learned positions only, never a full logits tensor
tricks      what makes it fast, each of which can be turned off
passes      how a step is worked out: the tricks that this model allows, with reasons
fast        decoder layers with a backward pass by hand
together    several processes, started by torchrun
probe       two real steps, measured: what fits, how many steps the budget buys
loop        the steps: schedule, accumulation, clipping, evaluation, best and last
checkpoint  what is needed to go on bit for bit after a kill
"""
