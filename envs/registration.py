"""Registers the environments with Gymnasium when imported.

    import gymnasium
    import envs.registration

    env = gymnasium.make("arena/Extraction-v0")

or, in one line, `gymnasium.make("envs.registration:arena/Extraction-v0")`.
"""

from gymnasium.envs.registration import register

register(id="arena/Extraction-v0", entry_point="envs.extraction_env:ExtractionEnv")
