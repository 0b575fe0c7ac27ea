# Sides of the box, and parameters with one value a face of them.

const AXES = (:x, :y, :z)
const SIDES = Dict(Symbol(axis, :_, e) => (d, e === :max)
                   for (d, axis) in enumerate(AXES) for e in (:min, :max))

check_side(::Grid{N}, side::Symbol) where {N} =
    get(SIDES, side, (4,))[1] <= N || throw(ArgumentError("there is no side $side"))

faces_of(grid::Grid, side::Symbol) = prod(grid.shape) ÷ grid.shape[SIDES[side][1]]

"The boundary parameters of a model that have values, each with their number."
function boundary_values(grid::Grid, given::Pair{Symbol,Vector{Symbol}}...)
    used = filter(pair -> !isempty(last(pair)), given)
    counts = map(pair -> sum(side -> faces_of(grid, side), last(pair)), used)
    return NamedTuple{map(first, used)}(counts)
end

"""
    sides(grid, block, names)

Of each side: its axis, its `SideFaces`, and the ranges of the block's cells along it.
"""
function sides(grid::Grid{N}, block::Block{N}, names) where {N}
    return map(enumerate(names)) do (k, side)
        d, upper = SIDES[side]
        before = sum(s -> faces_of(grid, s), names[1:k-1]; init=0)
        sizes = Base.setindex(grid.shape, 1, d)
        strides = ntuple(a -> a == d ? 0 : prod(sizes[1:a-1]), N)
        (d, SideFaces(before, strides, block.offset), layer(block, d, upper))
    end
end

"The index of a cell's boundary face among the values of a boundary parameter."
struct SideFaces{N}
    first::Int              # of the side's faces, less one
    strides::NTuple{N,Int}  # of the faces; 0 along the axis that the side is normal to
    offset::NTuple{N,Int}
end
@inline (faces::SideFaces)(I) = faces.first + 1 + sum(faces.strides .* (I .- 2 .+ faces.offset))
