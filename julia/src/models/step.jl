# One implicit Euler step of du/dt = R(u, m).

"""
    Step(model, length, previous)

R(u, m) + (u_previous - u) / dt = 0 with the `R` of `model`, dt the `length`, and u_previous the
parameter of the name `previous`, one value a cell.
"""
struct Step{N,M<:Model{N}} <: Model{N}
    grid::Grid{N}
    model::M
    length::Float64
    previous::Symbol

    Step(model::M, length::Real, previous::Symbol) where {N,M<:Model{N}} =
        new{N,M}(model.grid, model, length, previous)
end

from_table(::Type{Step}, grid::Grid, table) =
    Step(build(table["model"], grid, table["table"]), table["length"], Symbol(table["previous"]))

linear(step::Step) = linear(step.model)
stencil(step::Step) = stencil(step.model)
lower(step::Step) = within_step(lower(step.model), step.length)
within_step(::Nothing, _) = nothing
within_step(bound::Bound, length) = Bound(bound.value, bound.rate + 1 / length)
parameters(step::Step) = (; parameters(step.model)..., step.previous => :cells)
coefficients(step::Step, field) = (; model=coefficients(step.model, field), before=field())

assembly(step::Step, ::Type{T}, block::Block) where {T} =
    Pair[Previous{step.previous}() => block.own;
         [OfModel(stage) => ranges for (stage, ranges) in assembly(step.model, T, block)]]

struct Previous{Name} end
@inline function (::Previous{Name})(c, m, I) where {Name}
    @inbounds c.before[I...] = getproperty(m, Name)[I...]
    return
end

"A stage of the model's own coefficients."
struct OfModel{S}
    stage::S
end
@inline (of::OfModel)(c, m, I) = of.stage(c.model, m, I)
is_constant(of::OfModel) = is_constant(of.stage)

struct Advance{E}
    equation::E
    rate::Float64
end
equation(step::Step) = Advance(equation(step.model), 1 / step.length)
@inline function (advance::Advance)(u, c, I)
    r = advance.equation(u, c.model, I)
    return @inbounds r + oftype(r, advance.rate) * (c.before[I...] - u[I...])
end
