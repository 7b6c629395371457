"""What each command does, one file per command: ``run(arguments) -> exit status``."""
