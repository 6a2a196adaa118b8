"""What parts of an adaptation cost: for the progress and the estimate of a job."""

LEARNING = 3.0
"""Training on a picture once, in pictures that are only looked at."""
SIBLINGS = 0.7
"""What training all siblings may cost, in trainings of the model. With what it takes to ask them, a report
then costs no more than the model."""
