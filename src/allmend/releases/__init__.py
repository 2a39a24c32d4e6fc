"""Releases: what leaves is what was tested.

make.make(...)        merges, converts, describes and proves; a folder appears whole or not at all
audit.audit(...)      what an artefact's own files say: template, marks, settings, every weight
parity.*              the artefact as its consumer loads it, on held-out prompts, beside what was tested
verify.verify(folder) every byte, statement and signature, offline
"""
