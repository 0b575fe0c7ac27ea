# How a grid is spread over processes: here on one; `ext/AdjointGPURanksExt` has many.

abstract type Topology end

"One process."
struct Single <: Topology end

"""
    block(topology, grid)

The part of the grid that this process holds.
"""
block(::Single, grid::Grid) = Block(grid)

"""
    exchange!(topology, fields...)

Fill the outer layers of the fields from the neighbours' cells.
"""
exchange!(::Single, fields...) = nothing

"""
    accumulate!(topology, fields...)

The transpose of `exchange!`: add what stands in the outer layers to the cells they copy.
"""
accumulate!(::Single, fields...) = nothing

"Largest of each number over all processes."
global_max(::Single, values::Tuple) = values

"Sum of each number (or array) over all processes."
global_sum(::Single, values) = values

"""
    hidden_edge(topology, ranges)

How many cells at each end are computed first, so that their exchange hides behind the rest;
`nothing` where there is nothing to hide.
"""
hidden_edge(::Single, ranges) = nothing
