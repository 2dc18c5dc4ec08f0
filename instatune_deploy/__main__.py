"""``python -m instatune_deploy``."""

from instatune_deploy.cli import main

if __name__ == "__main__":
    main(prog_name="instatune-deploy")
