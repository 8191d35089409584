"""The same strategies behind HTTPS, embedded or serverless: a centre that is a store, blobs, and whoever wakes up.

A run is COINSTAC's own course, carried in steps: step 0 is the join, steps 1 to R are the rounds, two more end the run.
In each the sites commit what they have to say, one worker claims the step, lets the centre's unchanged handler answer,
and publishes the answer; everything that must outlive a process is in the store and the blobs.
"""
