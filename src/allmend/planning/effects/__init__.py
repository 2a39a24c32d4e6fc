"""Which calls, commands, magics and words have which effect: one file a family."""
