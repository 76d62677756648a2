"""Sweeps on Optuna: its storage is the one truth that workers and machines share.

Every trial has a number that is its place in the sweep and the name of its checkpoint; Optuna's
own number is another one where a trial was lost and taken up again. Modules of this room import
Optuna at top level, and nobody imports them but the command, inside functions.
"""
