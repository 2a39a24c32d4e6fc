"""Tuning: from token rows to a LoRA.

packs       rows into batches, batches into packs of at most so many tokens
loss        cross-entropy at learned positions only, never a full logits tensor
probe       two real steps, measured: what fits, how many steps the budget buys
loop        the steps: schedule, accumulation, clipping, evaluation, best and last
checkpoint  what is needed to go on bit for bit after a kill
"""
