"""Parity: held-out prompts through every artefact as its consumer loads it, beside what was tested.

probes.make(...)         prompts, answers and labels as token ids, from rows that training never saw
ours, torch_consumers, llamacpp   Replies of the tested model, of PEFT and transformers, of llama.cpp
compare.compare(...)     an Agreement, held to the threshold of its format
"""
