# Nonlinear diffusion: -div(D grad H) = Q with D = k H^n.

"""
    Diffusion(grid; fixed, inflow=[], smallest=1e-3)

Diffusion whose diffusivity is a power of what diffuses. In each cell

    R = sum_d (D_f (H_up - H) - D_f (H - H_down)) / h_d^2 + Q,    D_f = k_f max(H_f, smallest)^n_f,

H_f, k_f and n_f the means of the two cells on either side of a face. The sides of the box let
nothing through, but those in `fixed` (`:x_min`, `:x_max`, ...), where H is `boundary_height` H_b
and D = k H_b^n half a cell away, and those in `inflow`, where `boundary_inflow` comes in.

Unknown: `height`. Parameters: `diffusivity`, `exponent` and `source`, one value a cell;
`boundary_height` and `boundary_inflow`, one value a face of their sides, side after side.
"""
struct Diffusion{N} <: Model{N}
    grid::Grid{N}
    fixed::Vector{Symbol}
    inflow::Vector{Symbol}
    smallest::Float64

    function Diffusion(grid::Grid{N}; fixed, inflow=Symbol[], smallest::Real=1e-3) where {N}
        isempty(fixed) && throw(ArgumentError("fixed: found no side, expected one at least"))
        foreach(side -> check_side(grid, side), [fixed; inflow])
        smallest > 0 || throw(ArgumentError("smallest: found $smallest, expected a positive number"))
        return new{N}(grid, collect(Symbol, fixed), collect(Symbol, inflow), smallest)
    end
end

from_table(::Type{Diffusion}, grid::Grid, table) =
    Diffusion(grid; fixed=Symbol.(table["fixed"]), inflow=Symbol.(table["inflow"]), smallest=table["smallest"])

parameters(model::Diffusion) = (; diffusivity=:cells, exponent=:cells, source=:cells,
    boundary_values(model.grid, :boundary_height => model.fixed, :boundary_inflow => model.inflow)...)

"Coefficients of each cell: k_f / h^2 and n_f on its upper faces, Q, and the sink to sides of fixed height."
coefficients(::Diffusion{N}, field) where {N} =
    (; faces=ntuple(_ -> field(), N), exponents=ntuple(_ -> field(), N), sink=field(), source=field())

function assembly(model::Diffusion{N}, ::Type{T}, block::Block{N}) where {N,T}
    (; grid) = model
    h = T.(spacing(grid))
    faces = [DiffusionFaces(d, h[d]^2) => inner_faces(block, d) for d in 1:N]
    fixed = [HeldHeight(on_side, h[d]^2, T(model.smallest)) => cells
             for (d, on_side, cells) in sides(grid, block, model.fixed)]
    inflow = [Inflow(on_side, h[d]) => cells for (d, on_side, cells) in sides(grid, block, model.inflow)]
    return Pair[Copied(:source) => block.own; faces; fixed; inflow]
end

struct DiffusionFaces{T}
    axis::Int
    h2::T
end
@inline function (faces::DiffusionFaces)(c, m, I)
    d = faces.axis
    J = up(I, d)
    @inbounds c.faces[d][I...] = arithmetic(m.diffusivity[I...], m.diffusivity[J...]) / faces.h2
    @inbounds c.exponents[d][I...] = arithmetic(m.exponent[I...], m.exponent[J...])
    return
end

struct HeldHeight{S,T}
    side::S
    h2::T
    smallest::T
end
@inline function (held::HeldHeight)(c, m, I)
    @inbounds begin
        H = m.boundary_height[held.side(I)]
        conductance = 2 * m.diffusivity[I...] * max(H, held.smallest)^m.exponent[I...] / held.h2
        c.sink[I...] += conductance
        c.source[I...] += conductance * H
    end
    return
end

struct Inflow{S,T}
    side::S
    h::T
end
@inline function (inflow::Inflow)(c, m, I)
    @inbounds c.source[I...] += m.boundary_inflow[inflow.side(I)] / inflow.h
    return
end

"div(D grad H) + Q in one cell."
struct PowerDiffusion
    smallest::Float64
end
equation(model::Diffusion) = PowerDiffusion(model.smallest)
@inline function (law::PowerDiffusion)(H, c, I)
    r = @inbounds c.source[I...] - c.sink[I...] * H[I...]
    return divergence(r, H, c, oftype(r, law.smallest), I, Val(length(I)))
end

"r + sum_d of the flows in through the faces along axes 1 to D."
@inline function divergence(r, H, c, smallest, I, ::Val{D}) where {D}
    D == 0 && return r
    r += power_flow(H, c, smallest, I, up(I, D), D)
    r -= power_flow(H, c, smallest, down(I, D), I, D)
    return divergence(r, H, c, smallest, I, Val(D - 1))
end

"D_f (H_up - H) / h^2 through the face between two cells."
@inline function power_flow(H, c, smallest, below, above, d)
    @inbounds begin
        mean = max(arithmetic(H[below...], H[above...]), smallest)
        return c.faces[d][below...] * mean^c.exponents[d][below...] * (H[above...] - H[below...])
    end
end
