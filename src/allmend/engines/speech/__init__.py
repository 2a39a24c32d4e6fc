"""Speech: Whisper through faster-whisper, voices through Piper as a separate program, sound formats through PyAV.

Nothing is imported from here.
"""
