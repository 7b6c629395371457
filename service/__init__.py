"""What a user meets: REST, one page, and the command line. Holds no training and no SQL."""
