"""
A physics on a grid: one unknown field u, parameters m, and a residual R(u, m) = 0 that includes
its boundary conditions. R is computed in two stages, the coefficients c of m, and R of u and c, both
as functions of one cell, so that Enzyme can reverse each. A subtype has the fields `grid` and
methods of:

| `parameters(model)` | a NamedTuple: `:cells` for one value a cell, or the number of values |
| `coefficients(model, field)` | c, a NamedTuple of arrays made by `field()` |
| `assembly(model, T, block)` | the stages of c in their order, a vector of `assemble => ranges` |
| `equation(model)` | the residual of one cell, `(u, c, I) -> R` |
| `null_space(model)` | whether u is known up to a constant only |
| `linear(model)` | whether R is affine in u |
| `stencil(model)` | offsets of the cells on which R in one cell depends |
"""
abstract type Model{N} end

is_field(model::Model, name::Symbol) = parameters(model)[name] === :cells

"Whether a stage of c does not depend on m, so that its reverse is left out."
is_constant(assemble) = false

null_space(::Model) = false
linear(::Model) = false
stencil(::Model{N}) where {N} = star(Val(N))

"A cell and its neighbours along each axis."
star(::Val{N}) where {N} = (ntuple(_ -> 0, N),
    (Base.setindex(ntuple(_ -> 0, N), s, d) for d in 1:N for s in (-1, 1))...)

include("models/darcy.jl")
include("models/diffusion.jl")
include("models/step.jl")
include("explicit.jl")
include("models/wave.jl")

"The models by name."
const CATALOGUE = Dict{String,Any}("darcy" => Darcy, "diffusion" => Diffusion, "step" => Step,
                                   "acoustic-wave" => AcousticWave, "shallow-water" => ShallowWater)

"""
    build(name, grid, table)

The model of that name from a `[model]` table of a run file.
"""
function build(name::AbstractString, grid::Grid, table::AbstractDict)
    haskey(CATALOGUE, name) || throw(ArgumentError(
        "there is no model $(repr(name)); expected one of $(join(sort!(collect(keys(CATALOGUE))), ", "))"))
    return from_table(CATALOGUE[name], grid, table)
end
