# Steady single-phase flow in a porous medium: -div(K grad p) = Q.

"A point source: the cell that contains `position` gets Q = rate / cell volume."
struct Well{N}
    position::NTuple{N,Float64}
    rate::Float64
end
Well(position::NTuple{N,Real}, rate::Real) where {N} = Well{N}(position, rate)

"""
    Darcy(grid; wells=[], face_mean=:arithmetic, sides=[])

Darcy flow on a cell-centred grid. In each cell

    R = sum_d (K_f (p_up - p) - K_f (p - p_down)) / h_d^2 + Q,    -div(K grad p) = Q,

K_f the `:arithmetic` or `:harmonic` mean of the permeabilities on either side of a face. The
sides of the box let nothing through, but those named in `sides` (`:x_min`, `:x_max`, ...), where
the pressure is `boundary_pressure` p_b, half a cell away: 2 K (p_b - p) / h^2. With no such side p
is known up to a constant, and gets zero mean.

Unknown: `pressure`. Parameters: `permeability`, one value a cell; `boundary_pressure`, one value
a face of the named sides, side after side.
"""
struct Darcy{N} <: Model{N}
    grid::Grid{N}
    wells::Vector{Well{N}}
    face_mean::Symbol
    sides::Vector{Symbol}

    function Darcy(grid::Grid{N}; wells=Well{N}[], face_mean::Symbol=:arithmetic, sides=Symbol[]) where {N}
        face_mean in (:arithmetic, :harmonic) ||
            throw(ArgumentError("face_mean: found $face_mean, expected arithmetic or harmonic"))
        foreach(side -> check_side(grid, side), sides)
        foreach(w -> cell_containing(grid, w.position), wells)
        total = sum(w -> w.rate, wells; init=0.0)
        isempty(sides) && abs(total) > 1e-12 * sum(w -> abs(w.rate), wells; init=0.0) &&
            throw(ArgumentError("the wells' rates sum to $total, expected zero in a closed box"))
        return new{N}(grid, collect(Well{N}, wells), face_mean, collect(Symbol, sides))
    end
end

function from_table(::Type{Darcy}, grid::Grid{N}, table) where {N}
    # Positions in a table are in array order, (z, y, x).
    wells = [Well{N}(Tuple(Float64.(reverse(w["position"]))), w["rate"]) for w in table["wells"]]
    return Darcy(grid; wells, face_mean=Symbol(table["face_mean"]), sides=Symbol.(table["sides"]))
end

null_space(model::Darcy) = isempty(model.sides)
linear(::Darcy) = true

parameters(model::Darcy) =
    (; permeability=:cells, boundary_values(model.grid, :boundary_pressure => model.sides)...)

"Coefficients of each cell: K_f / h^2 on its upper faces, Q, and the sink to sides of fixed pressure."
function coefficients(model::Darcy{N}, field) where {N}
    closed = (; faces=ntuple(_ -> field(), N), source=field())
    return isempty(model.sides) ? closed : (; closed..., sink=field())
end

function assembly(model::Darcy{N}, ::Type{T}, block::Block{N}) where {N,T}
    h2 = T.(spacing(model.grid) .^ 2)
    mean = model.face_mean === :harmonic ? harmonic : arithmetic
    wells = map(model.wells) do well
        at = cell_containing(model.grid, well.position) .- block.offset .+ 1
        here = all(at .∈ block.own)
        Injection(T(well.rate / cell_volume(model.grid))) => map(i -> here ? (i:i) : (1:0), at)
    end
    faces = [Faces(d, mean, h2[d]) => inner_faces(block, d) for d in 1:N]
    fixed = [FixedSide(on_side, h2[d]) => cells for (d, on_side, cells) in sides(model.grid, block, model.sides)]
    return Pair[wells; faces; fixed]
end

arithmetic(a, b) = (a + b) / 2
harmonic(a, b) = 2 * a * b / (a + b)

struct Injection{T}
    rate::T
end
@inline function (well::Injection)(c, m, I)
    @inbounds c.source[I...] += well.rate
    return
end
is_constant(::Injection) = true

struct Faces{F,T}
    axis::Int
    mean::F
    h2::T
end
@inline function (faces::Faces)(c, m, I)
    K, d = m.permeability, faces.axis
    @inbounds c.faces[d][I...] = faces.mean(K[I...], K[up(I, d)...]) / faces.h2
    return
end

struct FixedSide{S,T}
    side::S
    h2::T
end
@inline function (fixed::FixedSide)(c, m, I)
    @inbounds begin
        conductance = 2 * m.permeability[I...] / fixed.h2
        c.sink[I...] += conductance
        c.source[I...] += conductance * m.boundary_pressure[fixed.side(I)]
    end
    return
end

"div(K grad p) + Q in one cell."
struct Balance end
equation(::Darcy) = Balance()
@inline function (::Balance)(p, c, I)
    @inbounds begin
        r = c.source[I...]
        if haskey(c, :sink)
            r -= c.sink[I...] * p[I...]
        end
        return divergence(r, p, c.faces, I, Val(length(I)))
    end
end

"r + sum_d of the flows in through the faces along axes 1 to D."
@inline function divergence(r, p, faces, I, ::Val{D}) where {D}
    D == 0 && return r
    K, above, below = faces[D], up(I, D), down(I, D)
    @inbounds r += K[I...] * (p[above...] - p[I...])
    @inbounds r -= K[below...] * (p[I...] - p[below...])
    return divergence(r, p, faces, I, Val(D - 1))
end
