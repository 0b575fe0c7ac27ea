# Models whose states follow from each other by explicit steps, without a solve.

"""
A state x, a NamedTuple of fields, that moves on by stages, each a function of one cell that works
in place; with coefficients c of the parameters, and in `c.load` a forcing that is constant over
intervals of `every` steps. What is observed of x at the start and at the ends of the intervals is
the unknown u. A subtype has the fields `grid` and methods of:

| `parameters(model)` | a NamedTuple: `:cells` for each, the forcing left out |
| `coefficients(model, field)`, `assembly(model, T, block)` | c, as for any model |
| `times(model)` | its `Times` |
| `forcing(model)` | its `Forcing`, or nothing |
| `state(model, field)` | x, of fields made by `field()` |
| `observed(model, x)` | the field of x that is u |
| `initial_state!(model, sim, x, m)` | sets x to its start |
| `initial_state_back!(model, sim, xbar, cbar, m)` | its transpose: adds to cbar, returns derivatives by m |
| `stages(model, block)` | of a step, `stage => ranges` each, `stage(x, c, I)` |
| `transposed(model, block)` | the transposed stages, `stage((; x=xbar, c=cbar), given, I)` |
| `seen(model, before, after, c)` | what these are given, of the states before and after a step |
"""
abstract type Explicit{N} <: Model{N} end

"The step's length, the number of steps, steps an interval, and the number of checkpoints."
struct Times
    step::Float64
    steps::Int
    every::Int
    checkpoints::Int

    function Times(step::Real, steps::Integer, every::Integer, checkpoints::Integer)
        step > 0 || throw(ArgumentError("step: found $step, expected a positive number"))
        steps > 0 && every > 0 && steps % every == 0 || throw(ArgumentError(
            "every: found $every, expected a divisor of steps, $steps"))
        checkpoints > 0 || throw(ArgumentError("checkpoints: found $checkpoints, expected 1 or more"))
        return new(step, steps, every, checkpoints)
    end
end
intervals(times::Times) = times.steps ÷ times.every

"A forcing of all cells, or of those with linear indices `cells`; `amount` is that of a unit value in one cell."
struct Forcing
    cells::Union{Nothing,Vector{Int}}
    amount::Float64
end
Forcing(grid::Grid, table::AbstractDict) =
    Forcing(table["cells"] === nothing ? nothing : Int.(table["cells"]) .+ 1, table["amount"])

source_size(grid::Grid, f::Forcing, times::Times) =
    f.cells === nothing ? (grid.shape..., intervals(times)) : (length(f.cells), intervals(times))
