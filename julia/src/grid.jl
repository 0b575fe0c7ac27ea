"""
    Grid(shape, extent; origin=zeros)

A box of `shape` cells, 1-D to 3-D; all tuples in the order (x, y, z). Fields have one value a
cell, at its centre `origin .+ (i .- 1/2) .* extent ./ shape`.
"""
struct Grid{N}
    shape::NTuple{N,Int}
    extent::NTuple{N,Float64}
    origin::NTuple{N,Float64}

    function Grid(shape::NTuple{N,Integer}, extent::NTuple{N,Real};
                  origin::NTuple{N,Real}=ntuple(_ -> 0.0, N)) where {N}
        1 <= N <= 3 || throw(ArgumentError("grid: found $N axes, expected 1 to 3"))
        all(>=(2), shape) || throw(ArgumentError("grid: found shape $shape, expected 2 cells or more"))
        all(e -> isfinite(e) && e > 0, extent) ||
            throw(ArgumentError("grid: found extent $extent, expected positive lengths"))
        return new{N}(shape, extent, origin)
    end
end

spacing(grid::Grid) = grid.extent ./ grid.shape
cell_volume(grid::Grid) = prod(spacing(grid))

"""
    cell_containing(grid, position)

Index of the cell that contains `position`; an `ArgumentError` where none does.
"""
function cell_containing(grid::Grid{N}, position::NTuple{N,Real}) where {N}
    slack = 1e-9 .* grid.extent
    inside = grid.origin .- slack .<= position .<= grid.origin .+ grid.extent .+ slack
    all(inside) || throw(ArgumentError("position $position lies outside the grid"))
    return clamp.(floor.(Int, (position .- grid.origin) ./ spacing(grid)), 0, grid.shape .- 1) .+ 1
end

"""
    Block(grid; offset=zeros, cells=grid.shape)

The part of a grid that one process holds: its own cells and one layer around them, which holds
the neighbours' cells inside the grid, and nothing (zero faces, zero state) outside it. Local
cell `I` of an array is cell `I .- 1 .+ offset` of the grid.
"""
struct Block{N}
    grid::Grid{N}
    offset::NTuple{N,Int}
    cells::NTuple{N,Int}    # as allocated: the same on every process
    own::NTuple{N,UnitRange{Int}}   # local indices of the cells that are in the grid
end

function Block(grid::Grid{N}, offset::NTuple{N,Int}=ntuple(_ -> 0, N),
               cells::NTuple{N,Int}=grid.shape) where {N}
    count = min.(cells, grid.shape .- offset)
    all(>(0), count) || throw(ArgumentError(
        "a grid of $(join(grid.shape, " x ")) cells leaves a process without any: use fewer processes"))
    return Block{N}(grid, offset, cells, map(n -> 2:n+1, count))
end

"Size of a field's array on this process."
padded(block::Block) = block.cells .+ 2

"Indices in the whole grid of the cells of this process."
whole(block::Block) = map((r, o) -> r .- 1 .+ o, block.own, block.offset)

"Two booleans: the block reaches the grid's lower, upper end along axis `d`."
ends(block::Block, d) = (block.offset[d] == 0, last(whole(block)[d]) == block.grid.shape[d])

"The inner faces along axis `d` that touch the block's cells, each by the cell below it."
function inner_faces(block::Block{N}, d) where {N}
    low, high = ends(block, d)
    own = block.own[d]
    return Base.setindex(block.own, (first(own) - !low):(last(own) - high), d)
end

"The layer of cells at the grid's lower (`false`) or upper (`true`) end of axis `d`."
function layer(block::Block, d, upper::Bool)
    own = block.own[d]
    at = upper ? last(own) : first(own)
    return Base.setindex(block.own, ends(block, d)[1 + upper] ? (at:at) : (1:0), d)
end

# Neighbours of a cell along an axis.
@inline up(I, d) = ntuple(k -> I[k] + (k == d), Val(length(I)))
@inline down(I, d) = ntuple(k -> I[k] - (k == d), Val(length(I)))
