# What a model need not say: coefficients that are its parameters, and which cells are in the grid.

"One array for each parameter with one value a cell, and `inside`, see `neighbour`."
function coefficients(model::Model, field)
    names = cell_parameters(model)
    return (; NamedTuple{names}(map(_ -> field(), names))..., inside=field())
end

cell_parameters(model::Model) = filter(name -> is_field(model, name), keys(parameters(model)))

function assembly(model::Model, ::Type{T}, block::Block) where {T}
    everywhere = map(n -> 1:n, padded(block))   # neighbours' cells, too
    return Pair[Copied(cell_parameters(model)...) => everywhere;
                Inside(model.grid.shape, block.offset) => everywhere]
end

"The keywords of a model's constructor are its table's keys."
from_table(::Type{M}, grid::Grid, table) where {M<:Model} =
    M(grid; (Symbol(key) => value for (key, value) in table)...)

"Sets each named coefficient to the parameter of that name."
struct Copied{Names} end
Copied(names::Symbol...) = Copied{names}()
@inline (::Copied{Names})(c, m, I) where {Names} =
    copy_cell!(values(NamedTuple{Names}(c)), values(NamedTuple{Names}(m)), I)
@inline copy_cell!(::Tuple{}, ::Tuple{}, I) = nothing
@inline function copy_cell!(to::Tuple, from::Tuple, I)
    @inbounds first(to)[I...] = first(from)[I...]
    return copy_cell!(Base.tail(to), Base.tail(from), I)
end

struct Inside{N}
    shape::NTuple{N,Int}
    offset::NTuple{N,Int}
end
@inline function (grid::Inside)(c, m, I)
    @inbounds c.inside[I...] = all(1 .<= I .- 1 .+ grid.offset .<= grid.shape)
    return
end
is_constant(::Inside) = true

"True for cells of the grid, false for the layer around it; for models with the coefficients above."
@inline inside(c, I) = @inbounds c.inside[I...] > 0

"""
    neighbour(field, c, I, J)

The value of `field` (the state or one of the coefficients `c`) in cell J, a neighbour of I; beyond
a side of the grid that of I itself, its mirror image, so that nothing flows through the side. For
a model with the coefficients above; one whose sides do something else asks `inside(c, J)`.
"""
@inline neighbour(field, c, I, J) = inside(c, J) ? @inbounds(field[J...]) : @inbounds(field[I...])
