"""Describes and sets up the machine: devices, memory, versions."""
