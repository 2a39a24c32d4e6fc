"""Verdicts: is the tuned model better than the one it started from, on rows it never saw?

measure     what each model answers: labels by score, free text, loss a token
metrics     a number a row, or a set, from answers
intervals   paired bootstrap, McNemar, how many rows would do
judge       all of it together: a Verdict
"""
