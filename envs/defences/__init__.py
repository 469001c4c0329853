"""Defences: mechanisms with a knob, from the bare victim to the Dynamic Neural Fortress."""
