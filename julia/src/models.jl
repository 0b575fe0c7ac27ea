"""
A physics on a grid: one unknown field u, parameters m, and a residual R(u, m) = 0 that includes
its boundary conditions. R is computed in two stages, the coefficients c of m, and R of u and c, both
as functions of one cell, so that Enzyme can reverse each. A subtype has the field `grid` and methods
of:

| `parameters(model)` | a NamedTuple: `:cells` for one value a cell, or the number of values |
| `equation(model)` | the residual of one cell, `(u, c, I) -> R`, of plain bits |

The rest has defaults. c is the parameters' cell fields and where the grid ends, see `neighbour`.

| `coefficients(model, field)` | c, a NamedTuple of arrays made by `field()` |
| `assembly(model, T, block)` | the stages of c in their order, a vector of `assemble => ranges` |
| `from_table(M, grid, table)` | the model of a `[model]` table |
| `null_space(model)` | whether u is known up to a constant only |
| `linear(model)` | whether R is affine in u |
| `lower(model)` | a `Bound` on u, or `nothing` |
| `stencil(model)` | offsets of the cells on which R in one cell depends |

`register` tells Python of a model of one's own.
"""
abstract type Model{N} end

is_field(model::Model, name::Symbol) = parameters(model)[name] === :cells

"True for a stage of c that does not depend on m: its reverse is left out."
is_constant(assemble) = false

null_space(::Model) = false
linear(::Model) = false
lower(::Model) = nothing
stencil(::Model{N}) where {N} = star(Val(N))

"The equations that solves drive to zero: the model's residual, with the bound on u if it has one."
equations(model::Model) = bounded(equation(model), lower(model))

"""
    Bound(value, rate)

u >= value: R <= 0 where u has come down to it, R = 0 above. `rate` is about what R changes by
with u; how solves go depends on it, their result does not.
"""
struct Bound
    value::Float64
    rate::Float64
end

"max(R(v), s (bound - v)) + s (v - u) with v = max(u, bound), s the bound's rate."
struct Bounded{E}
    equation::E
    bound::Bound
end
bounded(equation, ::Nothing) = equation
bounded(equation, bound::Bound) = Bounded(equation, bound)
@inline function (b::Bounded)(u, c, I)
    above = Above(u, oftype(zero(eltype(u)), b.bound.value))
    v = @inbounds above[I...]
    rate = oftype(v, b.bound.rate)
    r = b.equation(above, c, I)
    return max(r, rate * (above.bound - v)) + rate * (v - @inbounds u[I...])
end

"R(max(u, bound)), or R where there is no bound."
raised(model::Model) = raised(equation(model), lower(model))
raised(equation, ::Nothing) = equation
raised(equation, bound::Bound) = Raised(equation, bound.value)
struct Raised{E}
    equation::E
    bound::Float64
end
@inline (r::Raised)(u, c, I) = r.equation(Above(u, oftype(zero(eltype(u)), r.bound)), c, I)

"A field where it is above a bound, the bound elsewhere."
struct Above{A,T}
    u::A
    bound::T
end
@inline Base.getindex(above::Above, I...) = @inbounds above.u[I...] >= above.bound ? above.u[I...] : above.bound

"Lower limit of PC: just above a bound, R may not depend on u."
least_diagonal(model::Model) = least_diagonal(lower(model))
least_diagonal(::Nothing) = nothing
least_diagonal(bound::Bound) = LEAST * bound.rate

"A cell and its neighbours along each axis."
star(::Val{N}) where {N} = (ntuple(_ -> 0, N),
    (Base.setindex(ntuple(_ -> 0, N), s, d) for d in 1:N for s in (-1, 1))...)

"A cell and all cells around it, diagonal ones included."
box(::Val{N}) where {N} = (ntuple(_ -> 0, N),
    (s for s in Iterators.product(ntuple(_ -> -1:1, N)...) if any(!=(0), s))...)

include("defaults.jl")
include("models/channel.jl")
include("models/darcy.jl")
include("models/diffusion.jl")
include("models/ice.jl")
include("models/step.jl")
include("explicit.jl")
include("models/wave.jl")

"The models by name."
const CATALOGUE = Dict{String,Any}("acoustic-wave" => AcousticWave, "channel" => ChannelFlow,
    "darcy" => Darcy, "diffusion" => Diffusion, "ice" => Ice, "shallow-water" => ShallowWater,
    "step" => Step)

"""
    build(name, grid, table)

The model of that name from a `[model]` table of a run file.
"""
function build(name::AbstractString, grid::Grid, table::AbstractDict)
    haskey(CATALOGUE, name) || throw(ArgumentError(
        "there is no model $(repr(name)); expected one of $(join(sort!(collect(keys(CATALOGUE))), ", "))"))
    return from_table(CATALOGUE[name], grid, table)
end
