"""Read training logs of many formats: epochs, learning rates, loss components, and how the run ended.

Used by `giblet why LOG`, and sent to nodes as part of the agent, where it follows the logs of adopted runs. Therefore
standard library only, Python 3.8 or newer, and no import from elsewhere in the project.
"""
