"""A small run file of sensor placement, and one without anything to try the sensors on."""

_CHOICE = """\
title = "Gauges"
engine = "embedded"

[grid]
shape = [12, 16]
extent = [60e3, 80e3]

[model]
name = "shallow-water"
step = 12.0
steps = 30
every = 3
source = {low = [20e3, 20e3], high = [45e3, 60e3]}
absorbing = ["y_min", "x_min", "x_max"]
sponge = 2

[parameters]
depth = {profile = "continental-margin", side = "y_max", shelf_width = 10e3, slope_width = 20e3}

[sensors]
candidates = {low = [12e3, 15e3], high = [50e3, 65e3], shape = [3, 4]}
sigma = 0.01

[prior]
sd = 0.02
length = 15e3
duration = 60.0

[placement]
budget = 4
random = 5

"""
_TRIAL = """\
[forecast]
points = [[58e3, 30e3], [58e3, 50e3]]
names = ["west", "east"]
until = 250.0

[rupture]
centre = [33e3, 40e3]
uplift = 2.0
length = 30e3
width = 20e3
strike = 90.0
speed = 2e3
rise_time = 72.0

"""
_OUTPUT = """\
[output]
path = "gauges.nc"
journal = "gauges.h5"
"""
RUN_FILE, BARE = _CHOICE + _TRIAL + _OUTPUT, _CHOICE + _OUTPUT
