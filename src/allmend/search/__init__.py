"""Search over settings: the best adapter that a time budget buys.

space        where to look: learning rate, rank, batch, epochs; nine first points
rungs        successive halving as arithmetic: how many trials see how many rows in the seconds there are
sampling     points by Optuna's ask and tell, in a storage that any Optuna opens
trainer      training segments of trials: siblings on one frozen model
state        what is on disk: record, checkpoints, adapters
scheduler    brackets and rungs: who goes on, and how far; anytime, and resumable after a kill
workers      one rung, trained on as many workers as there are
trials       the trials as the record has them: whatever changes is written
upper        adapters in the upper layers alone: what lies below is worked out once for all trials and epochs
rows_curve   quality against rows
page         trials and curves as one HTML file
"""
