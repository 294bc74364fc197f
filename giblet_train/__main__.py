"""`python -m giblet_train`: the engine's command line."""

from giblet_train.cli import main

if __name__ == "__main__":
    main()
