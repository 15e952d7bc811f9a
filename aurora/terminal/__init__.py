"""A volume for people: a demo, a prompt, and a walk through every step of the engine.

A shell like any other: it uses the public engine and cluster, and listens to their trace. Nothing
of the protocol is written down here a second time.
"""
